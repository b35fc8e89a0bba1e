"""fastact inside other people's libraries: each adapter is imported only when asked for."""
