"""TEMP"""
class Journal:
    def __init__(self, matches, cursor=None):
        self.available=False; self.why_not='temp'; self.pending=False; self.cursor=None
