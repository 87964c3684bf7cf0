package org.flashring.launch;

import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import org.flashring.comm.CommunicationException;

/**
 * What two processes say to each other before anything else: that they are FlashRing's, of releases that speak alike,
 * and know the same job secret. Each answers the other's nonce with an HMAC of the secret, so that it is neither sent
 * nor of use to who listens.
 */
final class Handshake {
    private static final int MAGIC = 0x464c5247; // "FLRG"
    private static final int PROTOCOL = 3;
    private static final int NONCE = 32;
    private static final String LEADER = "rank 0";
    private static final String FOLLOWER = "follower";

    private Handshake() {}

    /**
     * Plays rank 0's part. Throws {@link IOException}, after the other side was told why if it can be, unless that
     * belongs to the run.
     */
    static void admit(Frames link, Secret secret, long millis) throws IOException {
        byte[] own = Secret.nonce();
        link.send(Frames.CHALLENGE, out -> write(out, own, new byte[] {(byte) (secret.isGiven() ? 1 : 0)}));
        DataInputStream in = link.receive(Frames.PROOF, millis).in();
        byte[] theirs = readNonce(in);
        byte[] proof = in.readAllBytes();
        if (!secret.accepts(proof, FOLLOWER, own, theirs)) {
            String problem = problem(secret.isGiven(), proof.length > 0);
            link.send(Frames.WELCOME, out -> out.writeUTF(problem));
            throw new IOException(problem);
        }
        link.send(Frames.WELCOME, out -> {
            out.writeUTF("");
            out.write(secret.proof(LEADER, theirs, own));
        });
        link.trust();
    }

    /** Returns what is wrong, in words that are true on both sides. */
    private static String problem(boolean wanted, boolean brought) {
        return !wanted
                ? "the process brings a job secret and rank 0 has none; " + Secret.VARIABLE + " or "
                        + Secret.FILE_VARIABLE
                        + " must be set on all ranks or on none"
                : brought
                        ? "the job secret of the process is not rank 0's"
                        : "the process brings no job secret and rank 0 has one; set " + Secret.VARIABLE + " or "
                                + Secret.FILE_VARIABLE + " as on rank 0";
    }

    /**
     * Plays the part of another rank.
     *
     * @throws CommunicationException if rank 0 turns this process away, or does not know the secret itself
     */
    static void apply(Frames link, Secret secret, long millis) throws IOException {
        DataInputStream in = link.receive(Frames.CHALLENGE, millis).in();
        byte[] theirs = readNonce(in);
        if (secret.isGiven() && in.read() == 0) {
            link.send(Frames.PROOF, out -> write(out, Secret.nonce(), new byte[1])); // rank 0 learns of it too
            throw new CommunicationException(problem(false, true));
        }
        byte[] own = Secret.nonce();
        link.send(Frames.PROOF, out -> write(out, own, secret.proof(FOLLOWER, theirs, own)));
        DataInputStream answer = link.receive(Frames.WELCOME, millis).in();
        String problem = answer.readUTF();
        if (!problem.isEmpty()) {
            throw new CommunicationException(problem);
        }
        if (!secret.accepts(answer.readAllBytes(), LEADER, own, theirs)) {
            throw new CommunicationException("the process that listens there does not know the job secret");
        }
        link.trust();
    }

    private static void write(DataOutputStream out, byte[] nonce, byte[] rest) throws IOException {
        out.writeInt(MAGIC);
        out.writeInt(PROTOCOL);
        out.write(nonce);
        out.write(rest);
    }

    /**
     * Returns the nonce; throws {@link IOException} if the message is not FlashRing's, or of a release that speaks
     * differently.
     */
    private static byte[] readNonce(DataInputStream in) throws IOException {
        if (in.readInt() != MAGIC) {
            throw new IOException("not a process of FlashRing");
        }
        int protocol = in.readInt();
        if (protocol != PROTOCOL) {
            throw new IOException("rendezvous protocol " + protocol + "; this release speaks " + PROTOCOL);
        }
        byte[] nonce = new byte[NONCE];
        in.readFully(nonce);
        return nonce;
    }
}
