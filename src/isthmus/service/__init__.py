"""The service: an API over the domain, and the documents that agents fetch and report."""
