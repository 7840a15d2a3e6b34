"""The programs and libraries that read our files, each tried in a process of its own."""
