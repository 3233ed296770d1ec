"""Repair of networks that were bought with a backdoor in them."""
