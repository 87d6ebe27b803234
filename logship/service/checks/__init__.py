"""What `logship check` looks at: facts are gathered once, and each check is a function of them.

`facts` asks both servers. The modules named after themes (settings, versions, names, rights, tables, objects,
target, traffic) hold the checks, which do no I/O. `table` lists them all.
"""
