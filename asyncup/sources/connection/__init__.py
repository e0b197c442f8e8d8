"""How the server is reached: settings as libpq reads them, and sessions; the one room that knows asyncpg."""
