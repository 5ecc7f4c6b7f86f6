"""AdaIN: pictures in the style of other pictures. README.md beside this file says how."""
