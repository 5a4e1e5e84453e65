"""What goes over the wire, and its codecs. No I/O."""
