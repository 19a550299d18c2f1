"""Cameras of a Jetson, and any other pipeline of GStreamer.

GStreamer belongs to the machine, with the plug-ins of its maker; PixelRT installs none. It is reached through
PyGObject, or else through an OpenCV that was built with it.
"""
