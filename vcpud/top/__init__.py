"""`vcpud top`: the running daemon at a glance, in a terminal.

`board` remembers and arranges what `status` says, without a terminal; `app` draws it with
textual, which is an extra (`pip install 'vcpud[top]'`) and imported by nothing else.
"""
