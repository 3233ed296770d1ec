"""What needs the device before a certificate: matrices of scores."""
