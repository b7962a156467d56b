"""The Images API: the public service over HTTP, in OpenAI's shape."""
