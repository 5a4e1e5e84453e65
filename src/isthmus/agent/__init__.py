"""The loop on every host: fetch, observe, plan, do, report."""
