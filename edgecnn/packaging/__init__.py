"""What goes on a device: models as files, answers to hold them to, and the smallest program in each language."""
