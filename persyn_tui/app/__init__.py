"""The terminal app: seven screens that show what the store holds and leave commands in it.

app.py       the application: modes, keys, the loop that follows the store
frame.py     what every screen shares: title line, four states, machine strip, footer
sheet.py     the list that every screen shows its rows in, from three rows to millions
forms.py     the lines and dialogs of every form
jobs/ …      a folder per screen: `screen.py`, and beside it what the screen reads and shows
wizard/      the dialog that makes a new job
"""
