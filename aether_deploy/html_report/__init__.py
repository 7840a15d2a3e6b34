"""What `report` shows: facts and figures of an artifact, pictures of its differences, and the HTML page of both.

facts    both files, the parity of this run, and what was not executed
crops    crops around the largest differences, side by side
speed    what `benchmark --json` printed
page     everything as one file that loads nothing else: page.html and page.css
"""
