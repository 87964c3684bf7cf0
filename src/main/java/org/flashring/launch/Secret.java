package org.flashring.launch;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.Map;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;
import org.flashring.internal.Checks;

/**
 * What the processes of a run know and nobody else does, or that there is no such thing. Never sent, and not in its own
 * words.
 */
public final class Secret {
    /** The variable that holds a job's secret. */
    public static final String VARIABLE = "FLASHRING_SECRET";
    /** The variable that names a file which holds it. */
    public static final String FILE_VARIABLE = "FLASHRING_SECRET_FILE";
    /** No secret: whoever reaches rank 0 may take part. */
    public static final Secret NONE = new Secret(new byte[0]);

    private static final int RANDOM_BYTES = 32;

    private final byte[] key;

    private Secret(byte[] key) {
        this.key = key;
    }

    /**
     * Returns a secret made from {@code text}, white space at its ends apart. It should be random and long:
     * {@code openssl rand -hex 32}.
     *
     * @throws IllegalArgumentException if the text is null or blank
     */
    public static Secret of(String text) {
        return of("secret", text);
    }

    private static Secret of(String name, String text) {
        if (Checks.notNull(name, text).isBlank()) {
            throw Checks.broken(name, "blank", "hold the job's secret, or not be there");
        }
        return new Secret(text.strip().getBytes(StandardCharsets.UTF_8));
    }

    /**
     * Returns the secret that {@value #VARIABLE} holds, or the file that {@value #FILE_VARIABLE} names; {@link #NONE}
     * where neither is set.
     *
     * @throws IllegalArgumentException if both are set, the secret is blank, or the file cannot be read; the message
     *     names the variable
     */
    public static Secret of(Map<String, String> variables) {
        String text = variables.get(VARIABLE);
        String file = variables.get(FILE_VARIABLE);
        if (text != null && file != null) {
            throw new IllegalArgumentException(
                    VARIABLE + " and " + FILE_VARIABLE + " are both set; one of them must do");
        }
        if (file == null) {
            return text == null ? NONE : of(VARIABLE, text);
        }
        try {
            return of("the file of " + FILE_VARIABLE, Files.readString(Path.of(file)));
        } catch (IOException | InvalidPathException e) {
            throw new IllegalArgumentException(
                    FILE_VARIABLE + " is '" + file + "'; it must name a text file that can be read: " + e, e);
        }
    }

    /** Returns the text of a new random secret. */
    public static String random() {
        return HexFormat.of().formatHex(nonce());
    }

    /** Returns bytes that nobody has seen before. */
    static byte[] nonce() {
        byte[] bytes = new byte[RANDOM_BYTES];
        new SecureRandom().nextBytes(bytes);
        return bytes;
    }

    /** Returns whether there is one. */
    public boolean isGiven() {
        return key.length > 0;
    }

    /**
     * Returns what only who knows the secret can say in the role of {@code who} about two nonces; nothing where there
     * is no secret.
     */
    byte[] proof(String who, byte[] asked, byte[] own) {
        if (!isGiven()) {
            return new byte[0];
        }
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, mac.getAlgorithm()));
            mac.update(who.getBytes(StandardCharsets.UTF_8));
            mac.update((byte) 0);
            mac.update(asked);
            return mac.doFinal(own);
        } catch (GeneralSecurityException e) {
            throw new IllegalStateException("this Java runtime lacks HmacSHA256", e);
        }
    }

    /**
     * Returns whether {@code proof} is what {@link #proof} says, in a time that tells nothing of how far it is right.
     */
    boolean accepts(byte[] proof, String who, byte[] asked, byte[] own) {
        return MessageDigest.isEqual(proof(who, asked, own), proof);
    }

    @Override
    public boolean equals(Object other) {
        return other instanceof Secret that && MessageDigest.isEqual(key, that.key);
    }

    @Override
    public int hashCode() {
        return isGiven() ? 1 : 0;
    }

    /** Returns whether there is one, not which. */
    @Override
    public String toString() {
        return isGiven() ? "a secret" : "no secret";
    }
}
