"""Adversarial images: generators, gradient attacks, robust networks."""
