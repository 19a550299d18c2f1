"""Frames through a GPU without waiting: a ring of slots, each with its memory, whatever runs the network."""
