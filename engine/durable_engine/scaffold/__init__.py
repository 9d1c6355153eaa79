"""What `durable-engine init` and `durable-engine new` write: a project, and a class with its test.

`kinds` reads types, `values` reads and writes defaults, `declaration` puts both together, `source` makes the text,
`module` adds it to a file that exists, `files` writes without writing over anything, `project` is the whole of it
for a new folder.
"""
