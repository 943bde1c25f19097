// UNTESTED: written from the documentation of onnxruntime-android and never compiled where this package was made.
//
// Run the models of a folder and hold their answers against the expected ones.
//
//     implementation("com.microsoft.onnxruntime:onnxruntime-android:VERSION")   on Android: call accept(folder)
//     implementation("com.microsoft.onnxruntime:onnxruntime:VERSION")           on a JVM: main, with the folder
//
// Ends with 0 if every model passes, 1 if one fails.
import ai.onnxruntime.OnnxJavaType
import ai.onnxruntime.OnnxTensor
import ai.onnxruntime.OrtEnvironment
import ai.onnxruntime.OrtSession
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.system.exitProcess

/** One line of acceptance.tsv. */
class Entry(line: String) {
    private val cells = line.split('\t')
    val file = cells[0]
    val batch = cells[2].toInt()
    val input = cells[3]
    val inputType = cells[4]
    val inputShape = cells[5].split(',').map { it.toLong() }
    val images = cells[6]
    val output = cells[7]
    val classes = cells[8].split(',').last().toInt()
    val logits = cells[9]
    val tolerance = cells[10].toFloat()
}

private fun little(bytes: ByteArray): ByteBuffer =
    ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.LITTLE_ENDIAN).put(bytes).apply { rewind() }

private fun tensor(environment: OrtEnvironment, entry: Entry, bytes: ByteArray): OnnxTensor {
    val shape = longArrayOf(entry.batch.toLong(), *entry.inputShape.drop(1).toLongArray())
    if (entry.inputType == "uint8") {
        return OnnxTensor.createTensor(environment, little(bytes), shape, OnnxJavaType.UINT8)
    }
    return OnnxTensor.createTensor(environment, little(bytes).asFloatBuffer(), shape)
}

private fun difference(environment: OrtEnvironment, session: OrtSession, folder: File, entry: Entry): Float {
    val images = File(folder, entry.images).readBytes()
    val expected = little(File(folder, entry.logits).readBytes()).asFloatBuffer()
    val callBytes = images.size / (entry.inputShape[0].toInt() / entry.batch)
    var worst = 0f
    for (start in images.indices step callBytes) {
        tensor(environment, entry, images.copyOfRange(start, start + callBytes)).use { batch ->
            session.run(mapOf(entry.input to batch)).use { result ->
                val found = (result.get(entry.output).get() as OnnxTensor).floatBuffer
                if (found.remaining() != entry.batch * entry.classes) return Float.POSITIVE_INFINITY
                while (found.hasRemaining()) {
                    val off = abs(found.get() - expected.get())
                    if (!(off <= worst)) worst = if (off.isFinite()) off else Float.POSITIVE_INFINITY
                }
            }
        }
    }
    return worst
}

/** Check every model; return whether all passed. */
fun accept(folder: File): Boolean {
    val environment = OrtEnvironment.getEnvironment()
    return File(folder, "acceptance.tsv").readLines().map { line ->
        val entry = Entry(line)
        val worst = environment.createSession(File(folder, entry.file).path).use { session ->
            difference(environment, session, folder, entry)
        }
        val passed = worst <= entry.tolerance
        println("${if (passed) "passed" else "FAILED"}  ${entry.file}: largest difference $worst, allowed ${entry.tolerance}")
        passed
    }.all { it }
}

fun main(arguments: Array<String>) {
    exitProcess(if (accept(File(arguments.firstOrNull() ?: "."))) 0 else 1)
}
