"""Training: what compression took, given back."""
