"""Training of the vision-language networks. Needs the extra ``train``; nothing on the vehicle imports this room."""
