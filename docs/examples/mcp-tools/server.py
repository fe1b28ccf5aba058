from mcp.server import MCPServer

mcp = MCPServer("words")


@mcp.tool()
def count_words(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())


mcp.run()
