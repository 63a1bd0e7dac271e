DELETE FROM sockets;
INSERT INTO nothing (note)
VALUES ('x');
