"""The dedicated wire between a guest and its gateways."""
