"""Programs that make the calls, each a process of its own: a load comes in as a line of JSON, and so goes the result.

`load` is what both sides know, `closed_loop` the loop that every worker in Python shares, `driver.mjs` the same loop in
JavaScript for peers that speak HTTP.
"""
