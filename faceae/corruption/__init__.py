"""What is hidden from the network, and finding it again. Knows numpy and Pillow only."""
