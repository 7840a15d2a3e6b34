"""What `report` shows: facts and figures of an artifact, pictures of its differences, one HTML page of both.

facts    both files, the parity of this run, what was not executed
crops    crops around the largest differences, side by side
speed    what `benchmark --json` printed
page     all of it as one file that loads nothing: page.html and page.css
"""
