"""How fast, how exact and how often wrong are the parts of this suite?"""
