"""Draws masks, which hide parts of an image from the network, and detects holes; needs only numpy and Pillow."""
