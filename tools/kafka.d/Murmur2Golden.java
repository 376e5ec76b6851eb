import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.List;
import java.util.Random;
import org.apache.kafka.common.utils.Utils;

/**
 * Prints the lines of wire/tests/murmur2.golden, with the hash function of the Kafka client:
 * java -cp '.kafka/lib/*' tools/kafka.d/Murmur2Golden.java
 */
public class Murmur2Golden {
    public static void main(String[] args) {
        var keys = new ArrayList<byte[]>();
        var random = new Random(4711);
        for (int length = 0; length <= 64; length++) {
            for (int i = 0; i < (length == 0 ? 1 : 2); i++) {
                var key = new byte[length];
                random.nextBytes(key);
                keys.add(key);
            }
        }
        for (int length = 1; length <= 16; length++) {
            keys.add(filled(length, 0xff));
        }
        for (int length = 1; length <= 8; length++) {
            keys.add(filled(length, 0));
        }
        for (int b = 0x7e; b <= 0x82; b++) {
            for (int length = 1; length <= 4; length++) {
                keys.add(filled(length, b));
            }
        }
        for (var text : List.of("flow-1", "test-01", "a", "ab", "abc", "abcd", "größe", "Straße", "東京", "ключ", "🚀", "naïve/ünïcode", "7f3a/2/7", "00000000-0000-0000-0000-000000000000", "x y z", "\u0000", "é", "e\u0301", "مفتاح", "שלום", "한글", "𝔘𝔫𝔦", "nave.flows.hub.in", "flow-ü"))
            keys.add(text.getBytes(StandardCharsets.UTF_8));
        for (var key : keys) {
            System.out.println((key.length == 0 ? "-" : HexFormat.of().formatHex(key)) + " " + Utils.murmur2(key));
        }
    }

    private static byte[] filled(int length, int value) {
        var key = new byte[length];
        Arrays.fill(key, (byte) value);
        return key;
    }
}
