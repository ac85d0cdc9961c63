"""The family ``loading``: data sets, transforms, and the DataLoader."""
