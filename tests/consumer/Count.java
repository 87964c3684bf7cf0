import org.flashring.Threads;

/** Prints how many threads the library takes. */
public final class Count {
    private Count() {}

    public static void main(String[] arguments) {
        System.out.println(Threads.get() + " threads");
    }
}
