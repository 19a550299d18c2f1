"""Cameras of Linux, by the kernel's own interface (Video4Linux2).

PixelRT asks the kernel itself, because what a live loop must know is there and nowhere else: when a picture
was taken, how many the driver lost, and that the camera is gone. linuxpy asks it too, under the GPL-3.0;
PixelRT's licence is another.
"""
