"""AVStyle: pictures restyled by sounds. README.md beside this file says how."""
