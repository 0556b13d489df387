// graft inspect: what lies at a path.
#include "graft/session/inspect.h"

#include "cli/command.h"

namespace graft::cli {

Run define_inspect(CLI::App& app, const Globals& globals) {
  auto path = std::make_shared<std::string>();
  app.add_option("path", *path, "a model, an adapter, a run, or a safetensors file")->required();
  return [path, &globals] {
    const RunReport report = inspect(*path);
    print_result(globals, report.document, report.text);
    return report.exit_code;
  };
}

}  // namespace graft::cli
