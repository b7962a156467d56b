"""The four stages and the rooms they share."""
