"""Training: what compression took, given back. Modules are imported one by one; options load without the loop."""
