"""The geometry of editing, and pictures from callers and back. numpy and Pillow only."""
