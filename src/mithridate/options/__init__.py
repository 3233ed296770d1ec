"""Typed options, one file a room, so that a room's options are the only ones its code depends on."""
