"""The public face of unclip: validates requests, orchestrates the four stages into flows, answers with pictures."""
