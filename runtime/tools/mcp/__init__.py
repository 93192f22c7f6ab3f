"""MCP (Model Context Protocol): servers whose tools are mounted, and our own tools as a server."""
