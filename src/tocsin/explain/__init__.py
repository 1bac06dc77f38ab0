"""Why did it go down? Evidence of all of a server's logs, incidents, suspects, a verdict, and how it is told."""
