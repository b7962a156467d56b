"""What the bundle is worth: pictures drawn by the flows, judged by a classifier."""
