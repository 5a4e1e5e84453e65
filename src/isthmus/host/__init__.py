"""The only place that runs programs or talks to the kernel."""
