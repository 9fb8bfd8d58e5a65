"""The terminal app: seven screens that show what the store holds and leave commands in it.

app.py          the application: its screens, keys and start
store_watch.py  follows the store and tells the screen in front
screens/        base.py: what every screen shares (title line, four states, machine strip, footer); a folder per screen:
                `query.py` reads, `screen.py` shows; wizard/: the dialog that makes a new job
widgets/        virtual_table.py: the list of every screen, from three rows to millions; form_fields.py: every form
state/          what is known between two reads of the store
textual_fixes/  what works around the library, and when each can go
"""
