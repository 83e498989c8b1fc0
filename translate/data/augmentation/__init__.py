"""`--augment`: random changes of the training images. START HERE: parsing.py."""
