// llm-inference --compare-cerebras: the same chat asked of a hosted model, and both side by side.
#pragma once

#include "Command.h"

#include "kernelforge/llm/Generate.h"
#include "kernelforge/llm/remote/CerebrasClient.h"

namespace kernelforge::cli {

/// Which hosted model, and how it is asked.
struct RemoteChoice {
  std::optional<std::string> model; ///< nothing: none is asked
  double timeout = 60;
  int retries = 2;
  bool noStream = false;

  bool isWanted() const { return model.has_value(); }
};

/// Adds --compare-cerebras, --cerebras-timeout, --cerebras-retries and --cerebras-no-stream.
void addRemoteOptions(CLI::App &command, RemoteChoice &choice);

/// Unusable where what is asked of the local model cannot be asked there: too high a temperature,
/// too many stop strings, no tokens.
Status checkRemote(const RemoteChoice &choice, const GenerateOptions &options,
                   const std::string &command);

/// What a hosted model answered, or why it did not.
struct RemoteAnswer {
  std::string askedAt; ///< when, as 2026-01-31T12:00:00Z
  RemoteResult result;
  std::vector<std::string> notSent; ///< settings of the local model that it does not have
};

/// Asks for the same: messages, temperature, top-p, seed, limit of tokens and stop strings.
RemoteAnswer askRemote(const RemoteChoice &choice, std::vector<ChatMessage> messages,
                       const GenerateOptions &options);

/// Seconds from the start of the prompt to the last token, and tokens a second over them.
double totalSeconds(const Generation &local);
double wallRate(const Generation &local);

/// The "remote" of an answer.
Json remoteJson(const RemoteChoice &choice, const RemoteAnswer &answer);

/// Prints the hosted model's text and the table of both.
void printComparison(const std::string &localModel, const Generation &local,
                     const RemoteChoice &choice, const RemoteAnswer &answer);

} // namespace kernelforge::cli
