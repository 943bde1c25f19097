// Run the models of this folder and hold their answers against the expected ones.
//
//     g++ -std=c++17 -O2 accept.cpp -I INCLUDE -L LIB -lonnxruntime -o accept
//     ./accept [FOLDER] [MODEL ...]
//
// INCLUDE and LIB are those folders of an unpacked release of ONNX Runtime.
// Exits 0 if every model passes, 1 if one fails, 2 if something is missing.
#include <onnxruntime_cxx_api.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iostream>
#include <iterator>
#include <limits>
#include <numeric>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace {

using Shape = std::vector<std::int64_t>;

// One line of acceptance.tsv.
struct Entry {
  std::string file, input, input_type, images, output, logits;
  std::int64_t batch = 1;
  Shape input_shape, output_shape;
  double tolerance = 0;
};

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

Shape parse_shape(const std::string& text) {
  Shape shape;
  for (const auto& part : split(text, ',')) shape.push_back(std::stoll(part));
  return shape;
}

Entry parse(const std::string& line) {
  const auto cells = split(line, '\t');
  if (cells.size() != 11) throw std::runtime_error("acceptance.tsv: expected 11 fields, found " + line);
  Entry entry;
  entry.file = cells[0];  // cells[1] is its SHA-256
  entry.batch = std::stoll(cells[2]);
  entry.input = cells[3];
  entry.input_type = cells[4];
  entry.input_shape = parse_shape(cells[5]);
  entry.images = cells[6];
  entry.output = cells[7];
  entry.output_shape = parse_shape(cells[8]);
  entry.logits = cells[9];
  entry.tolerance = std::stod(cells[10]);
  return entry;
}

template <typename Value>
std::vector<Value> read_values(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path.string() + ": cannot be read");
  const std::vector<char> bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  std::vector<Value> values(bytes.size() / sizeof(Value));
  std::copy(bytes.begin(), bytes.begin() + values.size() * sizeof(Value), reinterpret_cast<char*>(values.data()));
  return values;
}

std::size_t size_of(const Shape& shape) {
  return std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<>());
}

template <typename Value>
double difference(Ort::Session& session, const std::filesystem::path& folder, const Entry& entry) {
  auto images = read_values<Value>(folder / entry.images);
  const auto expected = read_values<float>(folder / entry.logits);
  Shape shape = entry.input_shape;
  shape[0] = entry.batch;
  const std::size_t image_size = size_of(shape);
  const std::size_t answer_size = entry.batch * entry.output_shape[1];
  const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
  const char* input = entry.input.c_str();
  const char* output = entry.output.c_str();
  double worst = 0;
  for (std::size_t call = 0; call * image_size < images.size(); ++call) {
    auto tensor = Ort::Value::CreateTensor<Value>(memory, images.data() + call * image_size, image_size, shape.data(),
                                                  shape.size());
    auto found = session.Run(Ort::RunOptions{}, &input, &tensor, 1, &output, 1);
    if (found[0].GetTensorTypeAndShapeInfo().GetElementCount() != answer_size) return INFINITY;
    const float* logits = found[0].template GetTensorData<float>();
    for (std::size_t index = 0; index < answer_size; ++index) {
      const double off = std::abs(double{logits[index]} - double{expected.at(call * answer_size + index)});
      if (!(off <= worst)) worst = std::isfinite(off) ? off : INFINITY;
    }
  }
  return worst;
}

double check(Ort::Env& env, const std::filesystem::path& folder, const Entry& entry) {
  Ort::SessionOptions options;
  options.SetIntraOpNumThreads(1);
  Ort::Session session(env, (folder / entry.file).c_str(), options);
  if (entry.input_type == "uint8") return difference<std::uint8_t>(session, folder, entry);
  return difference<float>(session, folder, entry);
}

int run(const std::filesystem::path& folder, const std::vector<std::string>& named) {
  std::ifstream table(folder / "acceptance.tsv");
  if (!table) throw std::runtime_error((folder / "acceptance.tsv").string() + ": cannot be read");
  std::printf("onnxruntime %s\n", OrtGetApiBase()->GetVersionString());
  Ort::Env env(ORT_LOGGING_LEVEL_ERROR, "accept");
  int checked = 0, failed = 0;
  for (std::string line; std::getline(table, line);) {
    const Entry entry = parse(line);
    if (!named.empty() && std::find(named.begin(), named.end(), entry.file) == named.end()) continue;
    const double worst = check(env, folder, entry);
    const bool passed = worst <= entry.tolerance;
    ++checked;
    failed += !passed;
    std::printf("%s  %s: largest difference %.3g, allowed %.3g\n", passed ? "passed" : "FAILED", entry.file.c_str(),
                worst, entry.tolerance);
  }
  if (!checked) std::puts("no such model");
  return checked ? (failed ? 1 : 0) : 2;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    const std::filesystem::path folder = count > 1 ? arguments[1] : ".";
    return run(folder, std::vector<std::string>(arguments + std::min(count, 2), arguments + count));
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
