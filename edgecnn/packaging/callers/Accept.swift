// UNTESTED: written from the documentation of onnxruntime-swift-package-manager and never compiled where this package
// was made.
//
// Run the models of a folder and hold their answers against the expected ones.
//
//     .package(url: "https://github.com/microsoft/onnxruntime-swift-package-manager", exact: "VERSION")
//     swift run Accept FOLDER
//
// Exits 0 if every model passes, 1 if one fails.
import Foundation
import OnnxRuntimeBindings

struct Entry: Decodable {
    let file: String
    let batch: Int
    let input: String
    let input_type: String
    let input_shape: [Int]
    let images: String
    let output: String
    let output_shape: [Int]
    let logits: String
    let tolerance: Float
}

struct Acceptance: Decodable {
    let onnxruntime: String
    let models: [Entry]
}

func floats(_ data: Data) -> [Float] {
    data.withUnsafeBytes { bytes in
        stride(from: 0, to: bytes.count, by: 4).map { offset in
            Float(bitPattern: UInt32(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)))
        }
    }
}

func difference(_ session: ORTSession, _ folder: URL, _ entry: Entry) throws -> Float {
    let images = try Data(contentsOf: folder.appendingPathComponent(entry.images))
    let expected = floats(try Data(contentsOf: folder.appendingPathComponent(entry.logits)))
    let calls = entry.input_shape[0] / entry.batch
    let callBytes = images.count / calls
    let answers = entry.batch * entry.output_shape[1]
    let shape = ([entry.batch] + entry.input_shape.dropFirst()).map { NSNumber(value: $0) }
    var worst: Float = 0
    for call in 0..<calls {
        let batch = NSMutableData(data: images.subdata(in: call * callBytes..<(call + 1) * callBytes))
        let type: ORTTensorElementDataType = entry.input_type == "uint8" ? .uInt8 : .float
        let value = try ORTValue(tensorData: batch, elementType: type, shape: shape)
        let result = try session.run(
            withInputs: [entry.input: value], outputNames: [entry.output], runOptions: nil)
        let found = floats(try result[entry.output]!.tensorData() as Data)
        if found.count != answers { return .infinity }
        for index in 0..<answers {
            let off = abs(found[index] - expected[call * answers + index])
            if !(off <= worst) { worst = off.isFinite ? off : .infinity }
        }
    }
    return worst
}

let folder = URL(fileURLWithPath: CommandLine.arguments.count > 1 ? CommandLine.arguments[1] : ".")
let told = try JSONDecoder().decode(
    Acceptance.self, from: Data(contentsOf: folder.appendingPathComponent("acceptance.json")))
let environment = try ORTEnv(loggingLevel: .error)
var failed = 0
for entry in told.models {
    let path = folder.appendingPathComponent(entry.file).path
    let session = try ORTSession(env: environment, modelPath: path, sessionOptions: nil)
    let worst = try difference(session, folder, entry)
    let passed = worst <= entry.tolerance
    failed += passed ? 0 : 1
    print("\(passed ? "passed" : "FAILED")  \(entry.file): largest difference \(worst), allowed \(entry.tolerance)")
}
exit(failed == 0 ? 0 : 1)
