package org.flashring.comm.process;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.List;

/**
 * What a rank tells the others of a group that is about to be made.
 *
 * @param host what processes of its host alone say; empty if unknown, or where it is known already
 * @param addresses by which it may be reached; empty where they are known already
 * @param port where it listens
 * @param token random bytes; those of a group's first rank let its members in
 * @param color of its group
 * @param key by which the group's ranks are ordered
 * @param name of the group
 */
record Card(String host, List<InetAddress> addresses, int port, byte[] token, int color, int key, String name) {
    static final int TOKEN = 16;

    static byte[] newToken() {
        byte[] token = new byte[TOKEN];
        new SecureRandom().nextBytes(token);
        return token;
    }

    byte[] toBytes() {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (DataOutputStream out = new DataOutputStream(bytes)) {
            out.writeUTF(host);
            out.writeInt(addresses.size());
            for (InetAddress address : addresses) {
                out.writeInt(address.getAddress().length);
                out.write(address.getAddress());
            }
            out.writeInt(port);
            out.write(token);
            out.writeInt(color);
            out.writeInt(key);
            out.writeUTF(name);
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
        return bytes.toByteArray();
    }

    static Card of(byte[] bytes) {
        try (DataInputStream in = new DataInputStream(new ByteArrayInputStream(bytes))) {
            String host = in.readUTF();
            List<InetAddress> addresses = new ArrayList<>();
            for (int left = in.readInt(); left > 0; left--) {
                addresses.add(InetAddress.getByAddress(in.readNBytes(in.readInt())));
            }
            return new Card(
                    host, addresses, in.readInt(), in.readNBytes(TOKEN), in.readInt(), in.readInt(), in.readUTF());
        } catch (IOException e) {
            throw new UncheckedIOException(e);
        }
    }
}
