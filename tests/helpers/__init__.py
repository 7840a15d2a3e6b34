"""What several test files share: networks, graphs, runners, commands, pages, a neosr checkout and engines."""
