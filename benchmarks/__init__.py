"""Speed, memory and quality, measured; nothing here is timed in the tests."""
